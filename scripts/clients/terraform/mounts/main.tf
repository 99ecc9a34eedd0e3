# Mounts of ours beside mounts that Vault ships: the same text, with other names of types.

terraform {
  required_providers {
    vault = { source = "hashicorp/vault" }
  }
}

variable "revision" {
  type = number
}

variable "engine" {
  type = string
}

variable "method" {
  type = string
}

locals {
  said = "revision ${var.revision}"
  ttl  = 300 * var.revision
}

resource "vault_mount" "bare" {
  path = "bare"
  type = var.engine
}

resource "vault_mount" "said" {
  path        = "below/said"
  type        = var.engine
  description = local.said
}

resource "vault_mount" "lives" {
  path                      = "lives"
  type                      = var.engine
  default_lease_ttl_seconds = local.ttl
  max_lease_ttl_seconds     = 2 * local.ttl
}

resource "vault_auth_backend" "bare" {
  type = var.method
}

resource "vault_auth_backend" "said" {
  path        = "below/said"
  type        = var.method
  description = local.said
}

resource "vault_auth_backend" "tuned" {
  path = "tuned"
  type = var.method
  tune {
    default_lease_ttl  = "${local.ttl}s"
    max_lease_ttl      = "1800s"
    listing_visibility = "unauth"
  }
}

data "vault_auth_backend" "tuned" {
  path = vault_auth_backend.tuned.path
}

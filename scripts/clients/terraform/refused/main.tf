# What Vault refuses, each for another reason.

terraform {
  required_providers {
    vault = { source = "hashicorp/vault" }
  }
}

variable "revision" {
  type = number
}

resource "vault_mount" "unknown" {
  path = "unknown"
  type = "unknown-${var.revision}"
}

resource "vault_mount" "protected" {
  path = "sys/below"
  type = "kv"
}

resource "vault_mount" "taken" {
  path = "secret"
  type = "kv"
}

resource "vault_auth_backend" "taken" {
  type = "token"
}

resource "vault_namespace" "enterprise" {
  path = "enterprise"
}

resource "vault_egp_policy" "enterprise" {
  name              = "enterprise"
  paths             = ["*"]
  enforcement_level = "soft-mandatory"
  policy            = "main = rule { true }"
}

resource "vault_policy" "unreadable" {
  name   = "unreadable"
  policy = "path \"a\" { capabilities = [\"fly\"] }"
}

resource "vault_generic_endpoint" "nowhere" {
  path      = "nowhere/${var.revision}"
  data_json = jsonencode({ a = "b" })
}

resource "vault_generic_endpoint" "wrong_user" {
  path      = "auth/token/roles/wrong"
  data_json = jsonencode({ period = "soon" })
}

data "vault_generic_secret" "absent" {
  path = "secret/absent"
}

data "vault_identity_entity" "absent" {
  entity_name = "absent"
}

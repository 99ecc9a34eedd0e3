# What is written to mounts of ours, and read back: without a difference that comes back with every plan.

terraform {
  required_providers {
    vault = { source = "hashicorp/vault" }
  }
}

variable "revision" {
  type = number
}

variable "ca" {
  type = string
}

resource "vault_auth_backend" "machines" {
  type = "tpm-quote"
  path = "machines"
}

resource "vault_generic_endpoint" "machines" {
  path                 = "auth/${vault_auth_backend.machines.path}/config"
  disable_delete       = true
  ignore_absent_fields = true
  data_json = jsonencode({
    enrollment          = "listed"
    ek_types            = ["rsa-2048", "p-256"]
    allow_software_tpms = true
    challenge_ttl       = 30 * var.revision
  })
}

resource "vault_generic_endpoint" "makers" {
  path                 = "auth/${vault_auth_backend.machines.path}/ca/makers"
  ignore_absent_fields = true
  data_json            = jsonencode({ certificate = var.ca })
}

resource "vault_generic_endpoint" "good" {
  path                 = "auth/${vault_auth_backend.machines.path}/reference/good"
  ignore_absent_fields = true
  data_json = jsonencode({
    pcrs  = { sha256 = { "0" = "b7b9e92dea020397e1c48921d5b79e26f0c0373175f432122371f8de3591b1b3" } }
    owner = "revision ${var.revision}"
  })
}

resource "vault_generic_endpoint" "builder" {
  path                 = "auth/${vault_auth_backend.machines.path}/role/builder"
  ignore_absent_fields = true
  data_json = jsonencode({
    references     = [basename(vault_generic_endpoint.good.path)]
    token_policies = [vault_policy.builder.name]
    token_ttl      = 300 * var.revision
  })
}

resource "vault_policy" "builder" {
  name   = "builder"
  policy = <<-EOT
    path "${vault_mount.broker.path}/creds/*" {
      capabilities = ["update"]
    }
  EOT
}

resource "vault_mount" "broker" {
  path        = "broker-of-terraform"
  type        = "broker"
  description = "revision ${var.revision}"
}

resource "vault_generic_endpoint" "broker" {
  path                 = "${vault_mount.broker.path}/config"
  disable_delete       = true
  ignore_absent_fields = true
  data_json            = jsonencode({ actions = ["deploy", "v${var.revision}"] })
}

resource "vault_generic_endpoint" "policy" {
  depends_on = [vault_generic_endpoint.broker]
  path       = "${vault_mount.broker.path}/policy/builders"
  data_json = jsonencode({ policy = <<-EOT
    // revision ${var.revision}
    permit (principal, action == Action::"deploy", resource == Plugin::"kubernetes")
    when { principal.role == "builder" };
  EOT
  })
}

resource "vault_generic_endpoint" "deploy" {
  depends_on           = [vault_generic_endpoint.broker]
  path                 = "${vault_mount.broker.path}/role/deploy"
  ignore_absent_fields = true
  data_json = jsonencode({
    plugins   = ["kubernetes"]
    actions   = ["deploy"]
    scopes    = ["apps:read", "apps:v${var.revision}"]
    audiences = ["https://api.example.com"]
    ttl       = 300 * var.revision
  })
}

data "vault_generic_secret" "deploy" {
  path       = vault_generic_endpoint.deploy.path
  depends_on = [vault_generic_endpoint.deploy]
}

resource "vault_generic_secret" "another" {
  depends_on   = [vault_generic_endpoint.broker]
  path         = "${vault_mount.broker.path}/role/another"
  disable_read = true
  data_json    = jsonencode({ plugins = "kubernetes", actions = "v${var.revision}", audiences = "https://api.example.com", ttl = "5m" })
}

output "deploy" {
  value     = data.vault_generic_secret.deploy.data
  sensitive = true
}

# What a machine reads at Vault and is given by a broker mount, in one run.

terraform {
  required_providers {
    vault = { source = "hashicorp/vault" }
  }
}

data "vault_generic_secret" "app" {
  path = "secret/app"
}

resource "vault_generic_endpoint" "creds" {
  path           = "broker/creds/deploy"
  disable_read   = true
  disable_delete = true
  write_fields   = ["token"]
  data_json      = jsonencode({ plugin = "kubernetes", action = "deploy", scope = "apps:read" })
}

output "app" {
  value     = data.vault_generic_secret.app.data["a"]
  sensitive = true
}

output "token" {
  value     = vault_generic_endpoint.creds.write_data["token"]
  sensitive = true
}

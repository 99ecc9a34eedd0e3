# Everything of the provider that a Vault can hold which is not Enterprise and reaches no other server.

terraform {
  required_providers {
    vault = { source = "hashicorp/vault" }
  }
}

variable "revision" {
  type = number
}

locals {
  said = "revision ${var.revision}"
  ttl  = 600 * var.revision
}

# secrets engines

resource "vault_mount" "kv" {
  path        = "by-terraform/kv"
  type        = "kv"
  description = local.said
  options     = { version = "1" }
}

resource "vault_mount" "kv_v2" {
  path        = "by-terraform-v2"
  type        = "kv-v2"
  description = local.said
}

resource "vault_generic_secret" "kv" {
  path      = "${vault_mount.kv.path}/a/b"
  data_json = jsonencode({ said = local.said, number = var.revision, list = [1, "two"] })
}

resource "vault_generic_secret" "kv_v2" {
  path      = "secret/by-terraform/c"
  data_json = jsonencode({ said = local.said, nested = { yes = true } })
}

data "vault_generic_secret" "read" {
  path       = vault_generic_secret.kv_v2.path
  depends_on = [vault_generic_secret.kv_v2]
}

data "vault_generic_secret" "older" {
  path       = vault_generic_secret.kv_v2.path
  version    = 1
  depends_on = [vault_generic_secret.kv_v2]
}

resource "vault_mount" "transit" {
  path                      = "transit-of-terraform"
  type                      = "transit"
  default_lease_ttl_seconds = local.ttl
  max_lease_ttl_seconds     = 2 * local.ttl
}

resource "vault_transit_secret_backend_key" "one" {
  backend                = vault_mount.transit.path
  name                   = "one"
  type                   = "ecdsa-p256"
  deletion_allowed       = true
  min_decryption_version = 1
}

resource "vault_transit_secret_backend_key" "two" {
  backend          = vault_mount.transit.path
  name             = "two"
  deletion_allowed = true
}

resource "vault_transit_secret_cache_config" "transit" {
  backend = vault_mount.transit.path
  size    = 500 * var.revision
}

data "vault_transit_encrypt" "said" {
  backend   = vault_mount.transit.path
  key       = vault_transit_secret_backend_key.two.name
  plaintext = local.said
}

data "vault_transit_decrypt" "said" {
  backend    = vault_mount.transit.path
  key        = vault_transit_secret_backend_key.two.name
  ciphertext = data.vault_transit_encrypt.said.ciphertext
}

resource "vault_mount" "pki" {
  path                  = "pki"
  type                  = "pki"
  max_lease_ttl_seconds = 86400
}

resource "vault_pki_secret_backend_root_cert" "root" {
  backend     = vault_mount.pki.path
  type        = "internal"
  common_name = "root.example.com"
  key_type    = "ec"
  key_bits    = 256
}

resource "vault_pki_secret_backend_config_urls" "pki" {
  backend              = vault_mount.pki.path
  issuing_certificates = ["https://pki.example.com/v${var.revision}/ca"]
}

resource "vault_pki_secret_backend_role" "web" {
  backend          = vault_mount.pki.path
  name             = "web"
  allowed_domains  = ["example.com", "v${var.revision}.example.com"]
  allow_subdomains = true
  key_type         = "ec"
  key_bits         = 256
}

resource "vault_pki_secret_backend_cert" "web" {
  depends_on  = [vault_pki_secret_backend_root_cert.root, vault_pki_secret_backend_config_urls.pki]
  backend     = vault_mount.pki.path
  name        = vault_pki_secret_backend_role.web.name
  common_name = "web.example.com"
  ttl         = "1h"
}

resource "vault_mount" "ssh" {
  path = "ssh"
  type = "ssh"
}

resource "vault_ssh_secret_backend_ca" "ssh" {
  backend              = vault_mount.ssh.path
  generate_signing_key = true
}

resource "vault_ssh_secret_backend_role" "user" {
  backend                 = vault_mount.ssh.path
  name                    = "user"
  key_type                = "ca"
  allow_user_certificates = true
  allowed_users           = "revision-${var.revision}"
  ttl                     = local.ttl
}

# auth methods

resource "vault_auth_backend" "userpass" {
  type = "userpass"
  path = "people"
  tune {
    default_lease_ttl  = "${local.ttl}s"
    max_lease_ttl      = "3h"
    listing_visibility = "unauth"
  }
}

resource "vault_generic_endpoint" "user" {
  path                 = "auth/${vault_auth_backend.userpass.path}/users/somebody"
  ignore_absent_fields = true
  data_json            = jsonencode({ password = "a password of ${local.said}", token_policies = [vault_policy.reader.name] })
}

resource "vault_generic_endpoint" "login" {
  depends_on     = [vault_generic_endpoint.user]
  path           = "auth/${vault_auth_backend.userpass.path}/login/somebody"
  disable_read   = true
  disable_delete = true
  data_json      = jsonencode({ password = "a password of ${local.said}" })
}

resource "vault_auth_backend" "approle" {
  type = "approle"
  path = "services"
}

resource "vault_approle_auth_backend_role" "service" {
  backend        = vault_auth_backend.approle.path
  role_name      = "service"
  token_policies = ["default", vault_policy.reader.name]
  token_ttl      = local.ttl
}

data "vault_approle_auth_backend_role_id" "service" {
  backend   = vault_auth_backend.approle.path
  role_name = vault_approle_auth_backend_role.service.role_name
}

resource "vault_approle_auth_backend_role_secret_id" "service" {
  backend   = vault_auth_backend.approle.path
  role_name = vault_approle_auth_backend_role.service.role_name
  metadata  = jsonencode({ said = local.said })
}

resource "vault_approle_auth_backend_role_secret_id" "wrapped" {
  backend      = vault_auth_backend.approle.path
  role_name    = vault_approle_auth_backend_role.service.role_name
  wrapping_ttl = "10m"
}

resource "vault_approle_auth_backend_login" "service" {
  backend   = vault_auth_backend.approle.path
  role_id   = vault_approle_auth_backend_role.service.role_id
  secret_id = vault_approle_auth_backend_role_secret_id.service.secret_id
}

resource "vault_jwt_auth_backend" "jwt" {
  path                   = "jwt-of-terraform"
  description            = local.said
  bound_issuer           = "https://issuer.example.com/${var.revision}"
  jwt_validation_pubkeys = ["-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n-----END PUBLIC KEY-----"]
}

resource "vault_jwt_auth_backend_role" "job" {
  backend         = vault_jwt_auth_backend.jwt.path
  role_name       = "job"
  role_type       = "jwt"
  user_claim      = "sub"
  bound_audiences = ["https://vault.example.com"]
  token_policies  = ["revision-${var.revision}"]
}

# policies, tokens, quotas

data "vault_policy_document" "reader" {
  rule {
    path         = "secret/data/v${var.revision}/*"
    capabilities = ["read", "list"]
    description  = local.said
  }
}

resource "vault_policy" "reader" {
  name   = "reader"
  policy = data.vault_policy_document.reader.hcl
}

resource "vault_password_policy" "long" {
  name   = "long"
  policy = <<-EOT
    length = ${20 + var.revision}
    rule "charset" {
      charset = "abcdefghij"
    }
  EOT
}

resource "vault_token" "one" {
  policies     = [vault_policy.reader.name]
  display_name = "revision-${var.revision}"
  ttl          = "10m"
}

resource "vault_token_auth_backend_role" "ci" {
  role_name        = "ci"
  allowed_policies = ["revision-${var.revision}"]
  orphan           = true
}

resource "vault_token" "of_role" {
  role_name    = vault_token_auth_backend_role.ci.role_name
  policies     = ["revision-${var.revision}"]
  wrapping_ttl = "10m"
}

resource "vault_quota_rate_limit" "all" {
  name = "all"
  path = ""
  rate = 10000 * var.revision
}

resource "vault_audit" "file" {
  type        = "file"
  description = local.said
  options     = { file_path = "discard" }
}

# identity

resource "vault_identity_entity" "somebody" {
  name     = "somebody"
  policies = ["revision-${var.revision}"]
  metadata = { said = local.said }
}

resource "vault_identity_entity_alias" "somebody" {
  name           = "somebody"
  mount_accessor = vault_auth_backend.userpass.accessor
  canonical_id   = vault_identity_entity.somebody.id
}

resource "vault_identity_group" "people" {
  name                       = "people"
  type                       = "internal"
  policies                   = ["revision-${var.revision}"]
  external_member_entity_ids = true
}

resource "vault_identity_group_member_entity_ids" "people" {
  group_id          = vault_identity_group.people.id
  exclusive         = false
  member_entity_ids = [vault_identity_entity.somebody.id]
}

resource "vault_identity_group" "outside" {
  name = "outside"
  type = "external"
}

resource "vault_identity_group_alias" "outside" {
  name           = "admins-${var.revision}"
  mount_accessor = vault_jwt_auth_backend.jwt.accessor
  canonical_id   = vault_identity_group.outside.id
}

data "vault_identity_entity" "somebody" {
  depends_on  = [vault_identity_entity_alias.somebody, vault_identity_group_member_entity_ids.people]
  entity_name = vault_identity_entity.somebody.name
}

resource "vault_identity_oidc_key" "key" {
  name               = "key"
  algorithm          = "ES256"
  allowed_client_ids = ["*"]
  verification_ttl   = local.ttl
}

resource "vault_identity_oidc_role" "role" {
  name = "role"
  key  = vault_identity_oidc_key.key.name
  ttl  = local.ttl
}

data "vault_auth_backend" "userpass" {
  path = vault_auth_backend.userpass.path
}

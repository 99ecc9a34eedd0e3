import {
  to = vault_mount.kv
  id = "by-terraform/kv"
}

import {
  to = vault_mount.kv_v2
  id = "by-terraform-v2"
}

import {
  to = vault_generic_secret.kv
  id = "by-terraform/kv/a/b"
}

import {
  to = vault_generic_secret.kv_v2
  id = "secret/by-terraform/c"
}

import {
  to = vault_mount.transit
  id = "transit-of-terraform"
}

import {
  to = vault_transit_secret_backend_key.one
  id = "transit-of-terraform/keys/one"
}

import {
  to = vault_pki_secret_backend_role.web
  id = "pki/roles/web"
}

import {
  to = vault_ssh_secret_backend_role.user
  id = "ssh/roles/user"
}

import {
  to = vault_auth_backend.userpass
  id = "people"
}

import {
  to = vault_approle_auth_backend_role.service
  id = "auth/services/role/service"
}

import {
  to = vault_jwt_auth_backend.jwt
  id = "jwt-of-terraform"
}

import {
  to = vault_jwt_auth_backend_role.job
  id = "auth/jwt-of-terraform/role/job"
}

import {
  to = vault_policy.reader
  id = "reader"
}

import {
  to = vault_password_policy.long
  id = "long"
}

import {
  to = vault_token_auth_backend_role.ci
  id = "auth/token/roles/ci"
}

import {
  to = vault_quota_rate_limit.all
  id = "all"
}

import {
  to = vault_audit.file
  id = "file"
}

import {
  to = vault_identity_oidc_key.key
  id = "key"
}

import {
  to = vault_identity_oidc_role.role
  id = "role"
}

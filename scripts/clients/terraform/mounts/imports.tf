import {
  to = vault_mount.bare
  id = "bare"
}

import {
  to = vault_mount.said
  id = "below/said"
}

import {
  to = vault_mount.lives
  id = "lives"
}

import {
  to = vault_auth_backend.bare
  id = var.method
}

import {
  to = vault_auth_backend.said
  id = "below/said"
}

import {
  to = vault_auth_backend.tuned
  id = "tuned"
}

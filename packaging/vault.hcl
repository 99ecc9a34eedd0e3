# A production Vault that Assay stands beside: integrated storage, TLS, one of three nodes.
#
#   vault server -config=/etc/vault/vault.hcl

storage "raft" {
  path    = "/var/lib/vault"
  node_id = "vault-1"

  retry_join {
    leader_api_addr     = "https://vault-2.internal:8200"
    leader_ca_cert_file = "/etc/vault/tls/ca.pem"
  }
  retry_join {
    leader_api_addr     = "https://vault-3.internal:8200"
    leader_ca_cert_file = "/etc/vault/tls/ca.pem"
  }
}

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_cert_file   = "/etc/vault/tls/cert.pem"
  tls_key_file    = "/etc/vault/tls/key.pem"
  tls_min_version = "tls13"

  # Front doors, and nobody else: what they say of whose request it is (X-Forwarded-For) is believed, so that tokens that are bound to
  # addresses (token_bound_cidrs) are held to those of clients. What they ask in their own name has no such header.
  x_forwarded_for_authorized_addrs   = "192.0.2.10,192.0.2.11"
  x_forwarded_for_reject_not_present = false

  # Lists of what was measured are large: without this a machine with a long one gets 413 where Vault itself answers.
  max_request_size = 33554432
}

api_addr     = "https://vault-1.internal:8200"
cluster_addr = "https://vault-1.internal:8201"

# Integrated storage maps its files into memory; swap is off on this machine instead.
disable_mlock = true

log_level = "info"

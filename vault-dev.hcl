# The dev server that the demo, the tests and a developer run Assay against:
#
#   "$(./scripts/vault-bin)" server -dev -config=vault-dev.hcl -dev-root-token-id=root -dev-no-store-token
#
# -dev alone decides storage (in memory), the listener (-dev-listen-address), the seal (unsealed, one key) and the KV v2
# mount at secret/. A listener or storage here would be added to those, so neither is set; vault-dev-listener.hcl adds a
# listener for who wants tokens to be held to the addresses of clients (token_bound_cidrs). Audit devices cannot be configured
# in this file (HashiCorp Vault ignores the stanza); enable one over the API.

# One node: otherwise every dev server also listens on the port after its own.
disable_clustering = true

# Requests are logged at debug; what goes wrong is a warning or worse.
log_level = "warn"

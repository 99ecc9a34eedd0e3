# A second listener of the dev server, for the front door: it believes what a front door on this machine says of whose request it is
# (X-Forwarded-For), so that tokens that are bound to addresses (token_bound_cidrs) are held to the addresses of clients. The listener
# of -dev itself cannot be told to.
#
#   vault server -dev -config=vault-dev.hcl -config=vault-dev-listener.hcl &
#   ./scripts/assay server --dev --vault-addr http://127.0.0.1:8202

listener "tcp" {
  address     = "127.0.0.1:8202"
  tls_disable = true

  # Whoever can connect from these addresses can say to be anybody: front doors only.
  x_forwarded_for_authorized_addrs = "127.0.0.1"

  # What the front door asks in its own name has no such header.
  x_forwarded_for_reject_not_present = false
}

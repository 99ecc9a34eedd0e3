import { isIP } from 'node:net'
import { createSecureContext, type SecureContext } from 'node:tls'
import { LRUCache } from 'lru-cache'
import { BrokerError, INTERCEPT_ROLE, type OwnVault } from '#engine'

/** Certificates for the hosts whose connections are intercepted, signed by the authority in Vault's PKI engine: made when first wanted, remembered for
 *  most of their life. */
export type Mint = {
  /** @throws BrokerError unavailable when Vault does not issue one */
  readonly of: (host: string) => Promise<SecureContext>
  /** From now on they are made anew: there may be another authority. */
  readonly forget: () => void
}

const LIFE_SECONDS = 6 * 3600
const REMEMBERED_MS = LIFE_SECONDS * 1000 * 0.75
/** Who has a certificate of any kind may ask for a tunnel: Vault is asked no more often for one that it does not let be made. */
const REFUSED_MS = 1000
const HOSTS = 1000

export function openMint(vault: OwnVault, pki: string, monotonic: () => number): Mint {
  const minted = new LRUCache<string, Promise<SecureContext>>({
    max: HOSTS,
    ttl: REMEMBERED_MS,
    perf: { now: monotonic },
    ttlResolution: 0,
  })
  return {
    of: host => {
      const kept = minted.get(host)
      if (kept) return kept
      const made = issue(vault, pki, host.replace(/^\[|\]$/g, ''))
      minted.set(host, made)
      made.catch(() => minted.peek(host) === made && minted.set(host, made, { ttl: REFUSED_MS }))
      return made
    },
    forget: () => minted.clear(),
  }
}

async function issue(vault: OwnVault, pki: string, host: string): Promise<SecureContext> {
  const names = isIP(host) ? { ip_sans: host } : { alt_names: host }
  // a name of more than 64 characters is none for a subject (X.520, ub-common-name)
  const subject = host.length <= 64 && !isIP(host) ? { common_name: host } : {}
  const reply = await vault.write(`${pki}/issue/${INTERCEPT_ROLE}`, { ...subject, ...names, ttl: `${LIFE_SECONDS}s` })
  const { certificate, ca_chain: chain, issuing_ca: ca, private_key: key } = reply?.data ?? {}
  if (typeof certificate !== 'string' || typeof key !== 'string')
    throw new BrokerError('unavailable', 'vault did not issue a certificate for the intercepted host')
  const above = Array.isArray(chain) ? chain.map(String) : typeof ca === 'string' ? [ca] : []
  return createSecureContext({ cert: [certificate, ...above].join('\n'), key, minVersion: 'TLSv1.2' })
}

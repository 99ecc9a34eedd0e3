import { isIP } from 'node:net'
import { createSecureContext, type SecureContext } from 'node:tls'
import { LRUCache } from 'lru-cache'
import { BrokerError, INTERCEPT_ROLE, type OwnVault } from '#engine'
import { bareHost } from '../egress/addresses.ts'

/** Certificates for the hosts whose connections are intercepted, signed by the authority in Vault's PKI engine: made when first wanted, remembered for
 *  most of their life. */
export type Mint = {
  /** @throws BrokerError unavailable when Vault does not issue one */
  readonly of: (host: string) => Promise<SecureContext>
  /** From now on they are made anew: there may be another authority. */
  readonly forget: () => void
}

const LIFE_SECONDS = 6 * 3600
/** of the life that it has: the role at Vault, its mount or the authority may give less than what is asked for */
const REMEMBERED = 0.75
/** Who has a certificate of any kind may ask for a tunnel: Vault is asked no more often for one that it does not let be made. */
const REFUSED_MS = 1000
const HOSTS = 1000

type Minted = { readonly context: SecureContext; readonly lifeMs: number }

export function openMint(vault: OwnVault, pki: string, { now, monotonic }: Clocks): Mint {
  const minted = new LRUCache<string, Promise<Minted>>({
    max: HOSTS,
    ttl: LIFE_SECONDS * 1000 * REMEMBERED,
    perf: { now: monotonic },
    ttlResolution: 0,
  })
  const contextOf = async (made: Promise<Minted>) => (await made).context
  return {
    of: host => {
      const kept = minted.get(host)
      if (kept) return contextOf(kept)
      const made = issue(vault, pki, now, bareHost(host))
      minted.set(host, made)
      const remember = (ttl: number) => minted.peek(host) === made && minted.set(host, made, { ttl: Math.max(1, ttl) })
      made.then(
        ({ lifeMs }) => remember(lifeMs * REMEMBERED),
        () => remember(REFUSED_MS),
      )
      return contextOf(made)
    },
    forget: () => minted.clear(),
  }
}

type Clocks = { readonly now: () => number; readonly monotonic: () => number }

async function issue(vault: OwnVault, pki: string, now: () => number, host: string): Promise<Minted> {
  const names = isIP(host) ? { ip_sans: host } : { alt_names: host }
  // a name of more than 64 characters is none for a subject (X.520, ub-common-name)
  const subject = host.length <= 64 && !isIP(host) ? { common_name: host } : {}
  const reply = await vault.write(`${pki}/issue/${INTERCEPT_ROLE}`, { ...subject, ...names, ttl: `${LIFE_SECONDS}s` })
  const { certificate, ca_chain: chain, issuing_ca: ca, private_key: key, expiration } = reply?.data ?? {}
  if (typeof certificate !== 'string' || typeof key !== 'string' || typeof expiration !== 'number')
    throw new BrokerError('unavailable', 'vault did not issue a certificate for the intercepted host')
  const above = Array.isArray(chain) ? chain.map(String) : typeof ca === 'string' ? [ca] : []
  const context = createSecureContext({ cert: [certificate, ...above].join('\n'), key, minVersion: 'TLSv1.2' })
  return { context, lifeMs: Math.min(LIFE_SECONDS * 1000, expiration * 1000 - now()) }
}

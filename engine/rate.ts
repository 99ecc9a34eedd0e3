import { LRUCache } from 'lru-cache'
import { BrokerError } from './errors.ts'

/** How much may be asked: `burst` at once, and `perSecond` from then on. */
type Rate = { readonly burst: number; readonly perSecond: number; readonly of: string }

/** Every limit of what needs no token. They are far above what a machine needs (a hardware TPM makes 5 to 20 quotes a second),
 *  and apart per key, so that a machine that floods us slows down only itself. */
export const rates = {
  offersFrom: { burst: 50, perSecond: 25, of: 'enrolments from this address' },
  offersOfEk: { burst: 10, perSecond: 1, of: 'enrolments of this TPM' },
  offers: { burst: 100, perSecond: 50, of: 'enrolments' },
  challengesOfAk: { burst: 400, perSecond: 200, of: 'challenges of this attestation key' },
  strangersFrom: { burst: 250, perSecond: 50, of: 'requests from this address for keys that nobody knows' },
  strangers: { burst: 1000, perSecond: 200, of: 'requests for keys that nobody knows' },
  offersOfP384From: { burst: 10, perSecond: 2, of: 'enrolments of endorsement keys on P-384 from this address' },
  offersOfP384: { burst: 20, perSecond: 10, of: 'enrolments of endorsement keys on P-384' },
  activationsFrom: { burst: 50, perSecond: 25, of: 'activations from this address' },
  documentsFrom: { burst: 200, perSecond: 100, of: 'logins by document from this address' },
  documents: { burst: 400, perSecond: 200, of: 'logins by document' },
  loginsOfAk: { burst: 400, perSecond: 200, of: 'logins of this attestation key' },
} as const satisfies Record<string, Rate>

/** Counts one request. @throws BrokerError rate_limited when it is one too many */
export type Limiter = (rate: keyof typeof rates, key?: string) => void

const KEYS = 10_000

/** Limits in the memory of this replica, by the generic cell rate algorithm (ITU-T I.371, Annex A): one number per key, of which the least recently
 *  used is forgotten. A key that is forgotten starts anew, as one that has rested does. */
export function openLimiter(monotonic: () => number): Limiter {
  const due = new LRUCache<string, number>({ max: KEYS })
  return (name, key = '') => {
    const { burst, perSecond, of } = rates[name]
    const intervalMs = 1000 / perSecond
    const now = monotonic()
    const next = Math.max(due.get(`${name} ${key}`) ?? now, now) + intervalMs
    if (next - now > burst * intervalMs) throw new BrokerError('rate_limited', `too many ${of}: try again in a second`)
    due.set(`${name} ${key}`, next)
  }
}

import { createHash } from 'node:crypto'
import { isIPv6 } from 'node:net'
import type { Metrics } from '../metrics.ts'
import type { Mount } from '../mount_table.ts'
import { groupsOf } from '../networks.ts'
import { type Limiter, openLimiter } from '../rate.ts'
import type { World } from '../world.ts'
import { hex } from './records.ts'
import { openStrangers } from './strangers.ts'

/** Who asks without a token: the mount, and the address that it came from. */
export type Asker = { readonly mount: Mount; readonly from: string }

/** How much may be asked by those who have no token. An address has its own share of everything that somebody else pays for, and what is
 *  about a machine is counted by machine and address: nobody uses up what another one may ask.
 *  Each throws BrokerError rate_limited when it is one too many; that is counted and not recorded, so that no flood of requests is one of records. */
export type Admission = {
  /** before anything is asked of Vault for it */
  readonly offer: (asker: Asker, ekPublic: Uint8Array) => void
  /** once it is known that whoever offers may */
  readonly allowedOffer: (ekPublic: Uint8Array) => void
  readonly activation: (asker: Asker) => void
  readonly document: (asker: Asker) => void
  readonly login: (asker: Asker, akName: Uint8Array) => void
  /** @param find looks the key up; refused where there is none */
  readonly challenge: <T>(asker: Asker, akName: Uint8Array, find: () => Promise<T>) => Promise<T>
}

export function openAdmission(world: World, metrics: Metrics): Admission {
  const limit = openLimiter(world.monotonic)
  const strangers = openStrangers()
  const count: Limiter = (rate, key) => {
    try {
      limit(rate, key)
    } catch (error) {
      metrics.refusals.inc({ code: 'rate_limited' })
      throw error
    }
  }
  const key = ({ mount, from }: Asker, rate: 'challengesOfAk' | 'loginsOfAk', akName: Uint8Array) => {
    const name = `${mount.id} ${hex(akName)}`
    if (!strangers.knows(name)) {
      count('strangersFrom', networkOf(from))
      count('strangers')
    }
    count(rate, `${name} ${networkOf(from)}`)
    return name
  }
  return {
    offer: ({ from }, ekPublic) => {
      count('offersFrom', networkOf(from))
      count('offersOfEk', `${networkOf(from)} ${digest(ekPublic)}`)
      if (isOnP384(ekPublic)) count('offersOfP384From', networkOf(from))
    },
    allowedOffer: ekPublic => {
      // the dearest by far to answer
      if (isOnP384(ekPublic)) count('offersOfP384')
      count('offers')
    },
    activation: ({ from }) => count('activationsFrom', networkOf(from)),
    document: ({ mount, from }) => {
      count('documentsFrom', networkOf(from))
      count('documents', mount.id)
    },
    login: (asker, akName) => void key(asker, 'loginsOfAk', akName),
    challenge: async (asker, akName, find) => {
      const name = key(asker, 'challengesOfAk', akName)
      const found = await strangers.lookUp(name, find)
      strangers.found(name)
      return found
    },
  }
}

/** Whoever has one IPv6 address has a network of 2^64 of them (RFC 4291, 2.5.1). */
export function networkOf(address: string): string {
  if (!isIPv6(address)) return address
  return groupsOf(address)
    .slice(0, 4)
    .map(group => group.toString(16))
    .join(':')
}

/** TPMT_PUBLIC: TPM_ALG_ECC, whose nameAlg by the template is SHA-384. */
const isOnP384 = (ekPublic: Uint8Array) => Buffer.from(ekPublic.subarray(0, 4)).equals(ON_P384)
const ON_P384 = Buffer.from('0023000c', 'hex')

const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('base64')

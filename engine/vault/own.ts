import { BrokerError } from '../errors.ts'
import type { Log } from '../log.ts'
import { isAbsent, isRemains, type Vault, VaultRefusal, type VaultReply } from './client.ts'
import type { Session } from './session.ts'
import type { CallOptions } from './transport.ts'

/** Vault in the broker's own name, for its state and its keys. What Vault refuses here is no fault of a caller, so it is not told to one. A token of ours
 *  that is worth nothing any more is replaced, and what was refused to it, without effect, is asked again.
 *  @throws VaultRefusal for what is an answer: nothing is there, a version does not match, the token that was asked about is bad
 *  @throws BrokerError unavailable for every other refusal */
export type OwnVault = {
  readonly read: (path: string) => Promise<VaultReply | undefined>
  readonly list: (path: string) => Promise<readonly string[]>
  readonly write: (path: string, body: Readonly<Record<string, unknown>>, wrapTtl?: string) => Promise<VaultReply | undefined>
  readonly delete: (path: string) => Promise<void>
}

/** This service deletes records with all their versions. What was a rule, a failure or a revocation does not count as never written because somebody else
 *  deleted it. */
const DELETED = 'a record of this service was deleted at vault, past this service: its log names the path'

export function openOwn(vault: Vault, session: Session, log: Log): OwnVault {
  const own = async <T>(path: string, call: (how: CallOptions) => Promise<T>, isSecond = false): Promise<T> => {
    const token = session.token()
    try {
      return await call({ as: token })
    } catch (error) {
      if (!(error instanceof VaultRefusal) || isAnswer(error)) throw error
      log.warn({ path, status: error.status, errors: error.errors }, 'vault refused the broker')
      if (error.status === 403 && isSecond) session.lacks()
      else if (error.status === 403 && (await session.replaced(token))) return own(path, call, true)
      throw new BrokerError('unavailable', isRemains(error) ? DELETED : `vault refused the broker with status ${error.status}`)
    }
  }
  return {
    read: path => own(path, how => vault.read(path, how)),
    list: path => own(path, how => vault.list(path, how)),
    write: (path, body, wrapTtl) => own(path, how => vault.write(path, body, { ...how, wrapTtl })),
    delete: path => own(path, how => vault.delete(path, how)),
  }
}

/** Whether Vault refused in these words, and with this status where others mean something else by them. */
const says = (words: RegExp, status?: number) => (error: unknown) =>
  error instanceof VaultRefusal && (status === undefined || error.status === status) && error.errors.some(one => words.test(one))

/** Somebody else changed what was to be replaced (KV v2, `cas`). A mount that wants the version with every write says something else. */
export const isVersionMismatch = says(/check-and-set.* did not match/, 400)

/** The mount or the record takes no write without `cas`, as its `cas_required` says. */
export const isVersionWanted = says(/check-and-set.* required/, 400)

/** Vault says "bad token" of a token that it was asked about, and something else of the one that it was asked with. */
export const isBadToken = says(/bad token/)

/** Vault says so of a token that it was asked about with status 400, of the one that it was asked with it is 403. */
export const isInvalidToken = says(/invalid token/, 400)

/** What was to be decrypted is no ciphertext of this key, or of a version that is no longer decrypted, or the key is gone. */
export const isBadCiphertext = says(/ciphertext|message authentication|encryption key not found/, 400)

/** No token has the accessor that was asked about: it was revoked, with a parent of it perhaps, or it has expired. */
export const isInvalidAccessor = says(/invalid accessor/)

const answers = [isAbsent, isInvalidToken, isVersionMismatch, isVersionWanted, isBadToken, isBadCiphertext, isInvalidAccessor]

function isAnswer(refusal: VaultRefusal): boolean {
  return answers.some(isOne => isOne(refusal))
}

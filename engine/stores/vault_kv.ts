import { BrokerError } from '../errors.ts'
import { Secret } from '../secret.ts'
import { VaultRefusal } from '../vault/client.ts'
import { objectFields } from './payload.ts'
import { type Held, type Next, type SecretStore, StoreFault, type StoreWorld } from './store.ts'

/** `of`: whose it is, where that was known when it was written. */
type Sealed = { readonly sealed: string; readonly of?: string }

/** Under the broker's own path in KV, as ciphertext of a key in transit; the ciphertext is bound to the path, so that records cannot be exchanged.
 *  References are made by the broker: `<id of the mount>/root/<name>#<whose>`; what is there of somebody else is not there. */
export const vaultKv: SecretStore = {
  summary: "The broker's own path in Vault's KV, encrypted under a key in transit.",
  settings: {},
  secrets: {},
  writable: true,
  open: (_settings, _credentials, world) => ({
    read: ref => answered(() => read(world, ref)),
    replace: (ref, next, version) => answered(() => replace(world, ref, next, version)),
    remove: ref => answered(() => world.state.delete(placeOf(ref).path)),
    close: async () => undefined,
  }),
}

/** Transit key of the root credentials of a mount. */
export const rootKey = (ref: string) => `assay-root-${ref.split('/')[0] ?? ''}`

async function read({ state, cipher }: StoreWorld, ref: string): Promise<Held> {
  const { path, whose } = placeOf(ref)
  const kept = await state.fresh<Sealed>(path)
  if (!kept || isOthers(kept.value, whose)) throw new StoreFault('absent', 'nothing was written there')
  const text = await cipher.open(rootKey(ref), kept.value.sealed, path).catch(unreadable(String(kept.version)))
  return { fields: objectFields(parsed(text)), version: String(kept.version) }
}

async function replace({ state, cipher }: StoreWorld, ref: string, next: Next, version: string): Promise<void> {
  const text = JSON.stringify(Object.fromEntries(Object.entries(next.fields).map(([name, one]) => [name, one.reveal()])))
  const key = rootKey(ref)
  await cipher.create(key)
  const { path, whose } = placeOf(ref)
  const sealed = await cipher.seal(key, new Secret(text), path)
  const record: Sealed = { sealed, of: whose }
  await state.put(path, record, version === '' ? await leftBehind(state, path, whose) : Number(version))
}

const unreadable = (version: string) => (error: unknown) => {
  throw isRefusal(error) ? new StoreFault('denied', error.message, version) : error
}

/** The version to replace where there is nothing of one's own: of what somebody else left, or none. */
async function leftBehind(state: StoreWorld['state'], path: string, whose: string): Promise<number> {
  const kept = await state.fresh<Sealed>(path)
  return kept && isOthers(kept.value, whose) ? kept.version : 0
}

const isOthers = ({ of }: Sealed, whose: string) => of !== undefined && of !== whose

function placeOf(ref: string): { readonly path: string; readonly whose: string } {
  const [path = '', whose = ''] = ref.split('#')
  return { path, whose }
}

function parsed(text: Secret): unknown {
  try {
    return JSON.parse(text.reveal())
  } catch {
    throw new StoreFault('malformed', 'what was decrypted is no JSON')
  }
}

async function answered<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error
    if (error.code === 'conflict') throw new StoreFault('conflict', error.message)
    throw new StoreFault(isRefusal(error) ? 'denied' : 'down', error.message)
  }
}

/** Of a version that is not accepted any more, or not from here: that is an answer. */
const isRefusal = (error: unknown): error is BrokerError => error instanceof BrokerError && error.cause instanceof VaultRefusal

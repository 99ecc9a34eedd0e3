import type { Grants } from '../consent/index.ts'
import { BrokerError } from '../errors.ts'
import type { Root, RootCredential } from '../integrations/port.ts'
import type { IssuerPorts, Keep } from '../issuers/issuer.ts'
import type { Upstreams } from '../issuers/outbound.ts'
import { signJwt, signRs256 } from '../jwt.ts'
import type { Secret } from '../secret.ts'
import { rootKey } from '../stores/vault_kv.ts'
import type { Cipher } from '../vault/cipher.ts'
import type { Vault } from '../vault/client.ts'
import { isInvalidAccessor, type OwnVault } from '../vault/own.ts'
import type { RsaSigner } from '../vault/rsa_signer.ts'
import type { Signer } from '../vault/transit.ts'
import type { World } from '../world.ts'
import type { Keys } from './keys.ts'
import { fieldsOf, type Prepared, type Source } from './prepared.ts'

/** What issuers are lent. */
export type Lent = {
  readonly world: World
  readonly keys: Keys
  readonly signer: Signer
  readonly rsaSigner: RsaSigner
  readonly cipher: Cipher
  readonly vault: Vault
  readonly own: Pick<OwnVault, 'write'>
  readonly upstreams: Upstreams
  readonly grants: Pick<Grants, 'rootOf'>
}

export async function portsOf(
  parts: Lent,
  prepared: Prepared,
  caller: Secret,
  keep: Keep = async () => {},
): Promise<IssuerPorts> {
  const { keys, signer, rsaSigner, cipher, upstreams } = parts
  const { mount } = prepared
  const plain = fieldsOf(prepared)
  const made = prepared.source?.integration.made ?? ''
  const ca = plain.settings['ca']
  return {
    ...plain,
    root: rootOf(prepared.source, parts.world),
    consented: grant => hiding(parts.grants.rootOf(mount.id, plain.integration, grant), parts.world.log),
    issuerUrl: await keys.issuerUrl(mount),
    key: () => keys.read(mount),
    sign: (key, typ, claims) => signJwt(signer, key, key.latest, typ, claims),
    signRs256: (key, claims) => signRs256(rsaSigner, key, claims),
    http: upstreams.of(
      `${mount.id}/${plain.integration}`,
      plain.integration,
      typeof ca === 'string' ? ca : '',
      prepared.issuer.throttled,
    ),
    seal: async secret => {
      await cipher.create(rootKey(mount.id))
      return [await cipher.seal(rootKey(mount.id), secret, mount.id), made].join(' ').trim()
    },
    unseal: async sealed => {
      const [text = '', whose = made] = sealed.split(' ')
      // another integration of this name would send it to another provider
      if (whose !== made)
        throw new BrokerError('unavailable', `it was issued through another integration ${plain.integration} than there is now`)
      return cipher.open(rootKey(mount.id), text, mount.id)
    },
    vault: parts.vault,
    caller,
    keep,
    endToken: accessor => endToken(parts, accessor),
    now: parts.world.now,
  }
}

async function endToken({ own }: Pick<Lent, 'own'>, accessor: string): Promise<void> {
  try {
    await own.write('auth/token/revoke-accessor', { accessor })
  } catch (error) {
    if (!isInvalidAccessor(error)) throw error
  }
}

/** The root credential. */
function rootOf(source: Source | undefined, { log }: World): Root {
  const absent = async () => {
    throw new BrokerError('unavailable', 'the role names no integration')
  }
  if (!source) return { read: absent, fresh: absent, replace: absent, alone: absent }
  return hiding(source.root, log)
}

/** What is read from it is in no log line from then on. */
function hiding(root: Root, log: World['log']): Root {
  const hidden = (read: RootCredential): RootCredential => {
    for (const secret of Object.values(read.fields)) log.hide(secret)
    return read
  }
  return {
    read: async () => hidden(await root.read()),
    fresh: async () => hidden(await root.fresh()),
    replace: root.replace,
    alone: work => root.alone((read, hold) => work(hidden(read), hold)),
  }
}

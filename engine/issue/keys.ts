import type { Mount } from '../mount_table.ts'
import { keySetOf } from '../vault/key_set.ts'
import type { RsaSigner } from '../vault/rsa_signer.ts'
import type { Signer, SigningKey } from '../vault/transit.ts'
import { configOf, type IssueSettings } from './settings.ts'

/** The keys of a `broker` mount and what the world may know of them. */
export type Keys = {
  readonly create: (mount: Mount) => Promise<void>
  readonly read: (mount: Mount) => Promise<SigningKey>
  readonly rotate: (mount: Mount) => Promise<SigningKey>
  readonly destroy: (mount: Mount) => Promise<void>
  /** `iss` of what the mount issues, and the base of its discovery document */
  readonly issuerUrl: (mount: Mount) => Promise<string>
  /** RFC 7517 */
  readonly jwks: (mount: Mount) => Promise<object>
  /** OpenID Connect Discovery 1.0, section 3; RFC 8414 */
  readonly discovery: (mount: Mount) => Promise<object>
}

const keyName = (mount: Mount) => `assay-issue-${mount.id}`

export function openKeys(signer: Signer, rsaSigner: RsaSigner, settings: IssueSettings, ownUrl: () => string): Keys {
  const issuerUrl = async (mount: Mount) => {
    const { issuer } = await configOf(settings, mount)
    return issuer || `${ownUrl()}/v1/${mount.path.slice(0, -1)}`
  }
  return {
    create: mount => signer.create(keyName(mount)),
    read: mount => signer.key(keyName(mount)),
    rotate: mount => signer.rotate(keyName(mount)),
    destroy: mount => signer.destroy(keyName(mount)),
    issuerUrl,
    jwks: async mount => {
      const { versions } = await signer.key(keyName(mount))
      const { rsa_keys } = await configOf(settings, mount)
      const rsa = (await Promise.all(rsa_keys.map(key => rsaSigner.versions(key)))).flat()
      return { keys: [...keySetOf(versions, 'ES256'), ...keySetOf(rsa, 'RS256')] }
    },
    discovery: async mount => {
      const issuer = await issuerUrl(mount)
      const { rsa_keys } = await configOf(settings, mount)
      return {
        issuer,
        jwks_uri: `${issuer}/.well-known/jwks.json`,
        // as the documents of other workload issuers: nobody is sent here by a browser, so there is no authorization endpoint
        response_types_supported: ['id_token'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['ES256', ...(rsa_keys.length > 0 ? ['RS256'] : [])],
        dpop_signing_alg_values_supported: ['ES256'],
      }
    },
  }
}

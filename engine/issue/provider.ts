import { BrokerError } from '../errors.ts'
import type { Integrations } from '../integrations/service.ts'
import { type Provider, Unfindable } from '../leases/provider.ts'
import type { MountTable } from '../mount_table.ts'
import type { Exchange } from './exchange.ts'

/** How credentials are ended: by the issuer that made them, through the integration that they came from. */
export function providerOf(exchange: Exchange, mounts: MountTable, integrations: Pick<Integrations, 'source'>): Provider {
  return {
    revoke: async (lease, handle) => {
      const mount = mounts.ofType('broker').find(({ id }) => id === lease.mountId)
      if (!mount) throw new BrokerError('unavailable', `the mount of the lease ${lease.leaseId} is not there`)
      const source = lease.integration === '' ? undefined : await integrations.source(mount, lease.integration)
      // what another of its name would send is not for its provider
      if (lease.integration !== '' && !source)
        throw new BrokerError('unavailable', `the integration ${lease.integration} that it was issued through was deleted`)
      await exchange.revoke(mount, lease.issuer, handle, source)
    },
    // none of the providers that issuers know today tells what it issued under which name
    find: async () => {
      throw new Unfindable()
    },
  }
}

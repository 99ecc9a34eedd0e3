import { BrokerError } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import { type Compiled, compile } from '../policy/index.ts'
import { FRESH_MS } from '../vault/store.ts'
import { CONFIG, type IssueSettings } from './settings.ts'

/** The compiled policies of each mount, at most as old as what the store remembers may be; a policy that does not compile any more makes every decision an error. */
export type Policies = {
  readonly of: (mount: Mount) => Promise<Compiled>
  /** something was written here: compile anew at the next question */
  readonly changed: (mount: Mount) => void
}

type Known = { readonly compiled: Promise<Compiled>; readonly at: number }

export function openPolicies(settings: IssueSettings, monotonic: () => number): Policies {
  const known = new Map<string, Known>()
  const load = async (mount: Mount): Promise<Compiled> => {
    const [names, config] = await Promise.all([settings.policy.list(mount.id), settings.config.fresh(mount.id, CONFIG)])
    const records = await Promise.all(names.map(async name => ({ name, record: await settings.policy.fresh(mount.id, name) })))
    const gone = records.find(({ record }) => !record)
    // the one that is not seen may be the one that forbids
    if (gone) throw new BrokerError('unavailable', `the policy ${gone.name} is listed but cannot be read: try again`)
    const texts = records.map(({ name, record }) => ({ name, text: record?.policy ?? '' }))
    return compile(texts, config?.actions ?? [])
  }
  return {
    of: mount => {
      const kept = known.get(mount.id)
      if (kept && monotonic() - kept.at < FRESH_MS) return kept.compiled
      const compiled = load(mount)
      known.set(mount.id, { compiled, at: monotonic() })
      // what could not be loaded is not remembered
      compiled.catch(() => known.delete(mount.id))
      return compiled
    },
    changed: mount => void known.delete(mount.id),
  }
}

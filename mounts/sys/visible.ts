import { type Broker, type Caller, type Mount, VaultRefusal } from '#engine'

type Rule = { readonly capabilities?: readonly string[] }
type Rules = Readonly<Record<string, Rule>>
/** What `sys/internal/ui/resultant-acl` says of a token: rules for exact paths, and for prefixes and patterns with `+`. */
export type ResultantAcl = { readonly root: boolean; readonly exact: Rules; readonly globs: Rules }

const NOTHING: ResultantAcl = { root: false, exact: {}, globs: {} }

/** Which of the mounts a caller may know of: those where its token may do anything at all, as Vault does it for its own. Vault's `default`
 *  policy lets a token ask; one that may not ask knows of none. */
export async function visibleTo(broker: Broker, caller: Caller, mounts: readonly Mount[]): Promise<readonly Mount[]> {
  if (mounts.length === 0 || caller.token === undefined) return []
  const acl = await aclOf(broker, caller)
  return mounts.filter(mount => mayEnter(acl, mount.path))
}

async function aclOf(broker: Broker, caller: Caller): Promise<ResultantAcl> {
  const reply = await broker.vault.read('sys/internal/ui/resultant-acl', { as: caller.token }).catch((error: unknown) => {
    if (error instanceof VaultRefusal && error.status === 403) return undefined
    throw error
  })
  const data = reply?.data as { root?: boolean; exact_paths?: Rules; glob_paths?: Rules } | undefined
  if (!data) return NOTHING
  return { root: data.root === true, exact: data.exact_paths ?? {}, globs: data.glob_paths ?? {} }
}

/** Whether the rules allow something at the mount's path, or at any path below it. `path` ends with a slash. */
export function mayEnter({ root, exact, globs }: ResultantAcl, path: string): boolean {
  if (root || grants(ruleAt(exact, globs, path))) return true
  const below = Object.entries(exact).filter(([rule]) => rule.startsWith(path))
  const patterns = Object.entries(globs).filter(([rule]) => (rule.includes('+') ? reaches(rule, path) : rule.startsWith(path)))
  return [...below, ...patterns].some(([, rule]) => grants(rule))
}

/** An exact rule comes before a prefix, a longer prefix before a shorter one. */
function ruleAt(exact: Rules, globs: Rules, path: string): Rule | undefined {
  const prefixes = Object.keys(globs).filter(prefix => !prefix.includes('+') && path.startsWith(prefix))
  const longest = prefixes.toSorted((one, other) => other.length - one.length)[0]
  return exact[path] ?? exact[path.slice(0, -1)] ?? (longest === undefined ? undefined : globs[longest])
}

function grants(rule: Rule | undefined): boolean {
  const capabilities = rule?.capabilities ?? []
  return capabilities.length > 0 && !capabilities.includes('deny')
}

/** Whether a pattern, in which `+` stands for one segment and a last `*` for whatever follows, can match something below the path. */
function reaches(pattern: string, path: string): boolean {
  const segments = path.slice(0, -1).split('/')
  const parts = pattern.split('/')
  for (const [at, segment] of segments.entries()) {
    const part = parts[at]
    if (part === undefined) return false
    if (part.endsWith('*') && at === parts.length - 1) return segment.startsWith(part.slice(0, -1))
    if (part !== '+' && part !== segment) return false
  }
  return true
}

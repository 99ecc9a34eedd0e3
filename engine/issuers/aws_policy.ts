import { ExchangeRefusal } from './refusal.ts'

/** Characters that STS takes for a session policy. */
const LONGEST = 2048

/** A session policy that allows exactly these permissions and nothing after the end of the grant: STS intersects it with what the role may.
 *  @param permissions `service:Action arn:...` each; those of one resource become one statement
 *  @param end seconds since the epoch
 *  @throws ExchangeRefusal PERMISSIONS when it would be longer than STS takes */
export function sessionPolicy(permissions: readonly string[], end: number): string {
  const byResource = new Map<string, string[]>()
  for (const one of permissions) {
    const [action, resource] = partsOf(one)
    byResource.set(resource, [...(byResource.get(resource) ?? []), action])
  }
  const until = new Date(end * 1000).toISOString().replace('.000', '')
  const Statement = [...byResource].map(([resource, actions]) => ({
    Effect: 'Allow',
    Action: actions,
    Resource: resource,
    Condition: { DateLessThan: { 'aws:CurrentTime': until } },
  }))
  const policy = JSON.stringify({ Version: '2012-10-17', Statement })
  if (policy.length > LONGEST)
    throw new ExchangeRefusal('PERMISSIONS', `the session policy would have ${policy.length} characters, STS takes ${LONGEST}`)
  return policy
}

/** Whether a permission lies within one of a ceiling: `*` stands for any characters, `?` for one, as in IAM; names of actions have no case. */
export function withinAws(permission: string, ceiling: string): boolean {
  const [action, resource] = partsOf(permission)
  const [actions, resources] = partsOf(ceiling)
  return covers(actions.toLowerCase(), action.toLowerCase()) && covers(resources, resource)
}

function partsOf(permission: string): readonly [string, string] {
  const at = permission.indexOf(' ')
  return at < 0 ? [permission, '*'] : [permission.slice(0, at), permission.slice(at + 1)]
}

/** Whether everything that `narrow` matches is matched by `wide` too. What may stand for several characters in `narrow` (wildcards, variables) is covered by `*` alone. */
function covers(wide: string, narrow: string): boolean {
  let [at, star, mark] = [0, -1, 0]
  let position = 0
  while (position < narrow.length) {
    if (wide[at] === '*') {
      star = at++
      mark = position
    } else if (
      at < wide.length &&
      (wide[at] === narrow[position] || (wide[at] === '?' && !'*?$'.includes(narrow[position] ?? '')))
    ) {
      at++
      position++
    } else if (star >= 0) {
      at = star + 1
      position = ++mark
    } else return false
  }
  while (wide[at] === '*') at++
  return at === wide.length
}

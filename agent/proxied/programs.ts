import type { Mode } from '../delivery.ts'

type Variables = Readonly<Record<string, string>>
type Given = { readonly env: Readonly<Record<string, string | undefined>>; readonly mode: Mode; readonly json: boolean }

/** What single programs need to find the sealed token where they look for credentials of their own. */
export function programs(given: Given): Variables {
  return { ...git(given), ...aws(given) }
}

/** git asks a helper once a server wants a password, and each time anew: so it has the token that is good now. What its other settings say of helpers
 *  does not count here, as they would be told to keep a sealed token. @see git-config(1), GIT_CONFIG_COUNT */
function git({ env, mode, json }: Given): Variables {
  if (json) return {}
  const read = mode.kind === 'env' ? `"$${mode.name}"` : '"$(cat "$ASSAY_CREDENTIAL_FILE")"'
  const helper = `!f() { test "$1" = get && printf 'username=assay\\npassword=%s\\n' ${read}; }; f`
  const before = Number(env['GIT_CONFIG_COUNT'] ?? 0) || 0
  const settings = [
    ['credential.helper', ''],
    ['credential.helper', helper],
  ] as const
  const numbered = settings.flatMap(([name, value], at) => [
    [`GIT_CONFIG_KEY_${before + at}`, name],
    [`GIT_CONFIG_VALUE_${before + at}`, value],
  ])
  return { GIT_CONFIG_COUNT: String(before + settings.length), ...Object.fromEntries(numbered), GIT_TERMINAL_PROMPT: '0' }
}

/** The AWS SDKs sign with keys: these sign what the proxy signs anew, beside the sealed token in the place of a session token. */
function aws({ mode }: Given): Variables {
  if (mode.kind !== 'env' || mode.name !== 'AWS_SESSION_TOKEN') return {}
  return {
    AWS_ACCESS_KEY_ID: 'ASIAASSAYSEALEDTOKEN',
    AWS_SECRET_ACCESS_KEY: 'throw-away',
    AWS_EC2_METADATA_DISABLED: 'true',
  }
}

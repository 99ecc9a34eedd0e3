import { InvalidArgumentError } from 'commander'

// What commander reads out of the words behind flags: each returns the value, or throws what commander tells the user.

/** Descriptors that a command may find its credential in. */
export const FIRST_FD = 3
const LAST_FD = 63

export function collect(value: string, sofar: readonly string[]): string[] {
  return [...sofar, value]
}

/** Without slashes at the ends; Vault's mounts may have several segments. */
export function mountPath(value: string): string {
  const path = value.replace(/^\/+|\/+$/g, '')
  const fine = path !== '' && path.split('/').every(segment => segment !== '' && segment !== '.' && segment !== '..')
  return fine ? path : wanted('the path of a mount')
}

/** To the millisecond: timers want whole ones. */
export function seconds(value: string): number {
  const number = Math.round(Number(value) * 1000) / 1000
  return number > 0 && number <= 600 ? number : wanted('seconds, more than 0 and at most 600')
}

export function days(value: string): number {
  const number = Number(value)
  return Number.isInteger(number) && number >= 1 && number <= 3650 ? number : wanted('whole days, 1 to 3650')
}

export function duration(value: string): string {
  return /^(\d+[smh]?)+$/.test(value) ? value : wanted('a duration such as 90s, 15m or 1h')
}

export function descriptor(value: string): number {
  const number = Number(value)
  return Number.isInteger(number) && number >= FIRST_FD && number <= LAST_FD
    ? number
    : wanted(`a number from ${FIRST_FD} to ${LAST_FD}`)
}

export function port(value: string): number {
  const number = Number(value)
  return Number.isInteger(number) && number >= 1 && number <= 65_535 ? number : wanted('a port from 1 to 65535')
}

export function collectBase(value: string, sofar: Readonly<Record<string, string>>): Record<string, string> {
  const [, name, place] = /^([A-Za-z_][A-Za-z0-9_]*)=([A-Za-z0-9.-]+(?::\d+)?(?:\/\S*)?)$/.exec(value) ?? []
  if (name === undefined || place === undefined)
    return wanted('a variable and a place, such as OPENAI_BASE_URL=api.openai.com/v1')
  return { ...sofar, [name]: place }
}

export function collectParameter(value: string, sofar: Readonly<Record<string, string>>): Record<string, string> {
  const at = value.indexOf('=')
  return at > 0 ? { ...sofar, [value.slice(0, at)]: value.slice(at + 1) } : wanted('a name and a value, such as public_key=...')
}

export function variable(value: string): string {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(value) ? value : wanted('the name of a variable')
}

export function collectPcr(value: string, sofar: readonly number[]): number[] {
  if (!/^(?:1?\d|2[0-3])$/.test(value)) wanted('a number from 0 to 23')
  return [...sofar, Number(value)]
}

function wanted(what: string): never {
  throw new InvalidArgumentError(`wanted ${what}`)
}

import { Command } from 'commander'
import type { Fields, Issuer, SecretStore } from '#engine'

type Engine = typeof import('#engine')
type Row = { readonly name: string; readonly summary: string } & Readonly<Record<string, unknown>>

/** What is registered, read off the registries themselves. */
const registries = {
  issuers: {
    description: 'list the ways to make a credential, with their fields of roles and integrations',
    rows: (engine: Engine) => Object.entries(engine.issuers).map(([name, one]) => issuerRow(name, one)),
  },
  rotators: {
    description: 'list the ways to replace a root credential',
    rows: (engine: Engine) =>
      Object.entries(engine.rotators).map(([name, { summary, type, settings, supplied }]) => ({
        name,
        summary,
        type,
        settings: fieldRows(settings),
        supplied: supplied === true,
      })),
  },
  stores: {
    description: 'list the kinds of places where root credentials may be kept',
    rows: (engine: Engine) => Object.entries(engine.stores).map(([name, one]) => storeRow(name, one)),
  },
} as const satisfies Record<string, { description: string; rows: (engine: Engine) => readonly Row[] }>

/** `assay issuers`, `assay rotators` and `assay stores`. */
export function registryCommands(): Command[] {
  return Object.entries(registries).map(([name, { description, rows }]) =>
    new Command(name)
      .description(description)
      .option('--json', 'one JSON document: a list with an object each')
      .action(async ({ json }: { json?: true }) => {
        const found = rows(await import('#engine'))
        process.stdout.write(json ? `${JSON.stringify(found)}\n` : tableOf(found))
      }),
  )
}

function issuerRow(name: string, { summary, role, integration, revoke, cacheable, delivery }: Issuer): Row {
  return {
    name,
    summary,
    role: fieldRows(role),
    ...(integration ? { settings: fieldRows(integration.settings), secrets: secretRows(integration.secrets) } : {}),
    revocable: revoke !== undefined,
    reusable: cacheable === true,
    delivery: delivery ?? 'any',
  }
}

function storeRow(name: string, { summary, settings, secrets, ref, writable }: SecretStore): Row {
  return { name, summary, settings: fieldRows(settings), secrets: secretRows(secrets), ref: ref?.means ?? '', writable }
}

function fieldRows(fields: Fields): readonly object[] {
  return Object.entries(fields).map(([name, { kind, description, required, choices, fallback }]) => ({
    name,
    kind,
    required,
    description,
    ...(choices ? { choices } : {}),
    ...(required || fallback === undefined ? {} : { default: fallback }),
  }))
}

function secretRows(secrets: SecretStore['secrets']): readonly object[] {
  return Object.entries(secrets).map(([name, { description, required }]) => ({ name, required, description }))
}

function tableOf(rows: readonly Row[]): string {
  const width = Math.max(...rows.map(({ name }) => name.length))
  return rows.map(({ name, summary }) => `${name.padEnd(width)}  ${summary}\n`).join('')
}

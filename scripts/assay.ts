import { Command } from 'commander'
import manifest from '../package.json' with { type: 'json' }

// which file has which commands: only the one that is asked for is loaded, unless help has to list them all
const agent = async () => [(await import('../agent/cli.ts')).agentCommand()]
const proxy = async () => [(await import('../proxy/cli.ts')).proxyCommand()]
// what a proxy's file says of its places is read where such files are
const ofProxy = async (file: string) => (await import('../proxy/cli.ts')).setUpOf(file)
const server = async () => (await import('../mounts/cli.ts')).serverCommands(ofProxy)
const registries = async () => (await import('../mounts/registries.ts')).registryCommands()
const homes: Readonly<Record<string, () => Promise<Command[]>>> = {
  agent,
  proxy,
  server,
  setup: server,
  audit: server,
  issuers: registries,
  rotators: registries,
  stores: registries,
}

const program = new Command('assay').description(manifest.description).version(manifest.version)
for (const load of homesOf(process.argv[2])) for (const command of await load()) program.addCommand(command)
if (!Object.hasOwn(homes, process.argv[2] ?? '')) program.addCommand((await import('./completion.ts')).completionCommand(program))
await program.parseAsync()

function homesOf(word: string | undefined): Iterable<() => Promise<Command[]>> {
  if (word === '--version' || word === '-V') return []
  const home = word === undefined || !Object.hasOwn(homes, word) ? undefined : homes[word]
  return home ? [home] : new Set(Object.values(homes))
}

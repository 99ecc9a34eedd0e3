import { open } from 'node:fs/promises'
import { reasonOf } from './client.ts'
import { AgentError } from './exits.ts'

/** What a service may want beside a quote, how it is called in a request, and where Linux shows it, to root alone. */
export const logKinds = {
  tcg: {
    field: 'event_log',
    option: '--event-log',
    what: 'the event log of the boot',
    limit: 2 ** 20,
    place: '/sys/kernel/security/tpm0/binary_bios_measurements',
  },
  ima: {
    field: 'ima_log',
    option: '--ima-log',
    what: 'the list of IMA',
    limit: 12 * 2 ** 20,
    place: '/sys/kernel/security/ima/ascii_runtime_measurements',
  },
} as const
export type LogKind = keyof typeof logKinds

/** Reads a log of this machine, which is done after the quote: what it has more than the quote is left for the next one. */
export type Logs = (kind: LogKind) => Promise<Buffer>

/** @param files in place of those that Linux shows */
export function logsFrom(files: { readonly [Kind in LogKind]?: string | undefined }): Logs {
  return kind => readLog(kind, files[kind] ?? logKinds[kind].place)
}

/** Its size is not known before it is read: what the kernel shows has none. */
async function readLog(kind: LogKind, path: string): Promise<Buffer> {
  const { what, option, limit } = logKinds[kind]
  const chunks: Buffer[] = []
  let size = 0
  try {
    await using file = await open(path)
    for await (const chunk of file.createReadStream({ autoClose: false })) {
      chunks.push(chunk as Buffer)
      size += (chunk as Buffer).length
      if (size > limit) throw new AgentError('file', `${path} has more than ${limit} bytes, which the service does not take`)
    }
  } catch (error) {
    if (error instanceof AgentError) throw error
    const next = `name another file with ${option}, or run as root`
    throw new AgentError('file', `the service wants ${what}, but ${path} could not be read (${reasonOf(error)}): ${next}`, {
      cause: error,
    })
  }
  return Buffer.concat(chunks)
}

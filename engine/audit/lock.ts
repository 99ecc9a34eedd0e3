import { hash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { basename, dirname } from 'node:path'
import { BrokerError } from '../errors.ts'

/**
 * Keeps a log for this writer alone, as two would break each other's chain. What is held is a name in the kernel (an abstract socket,
 * unix(7)), which goes with its process, however that ends. Other systems have none: there, and between network namespaces, nobody is kept out.
 * The result lets it go. Throws `BrokerError` unavailable when somebody else has it.
 */
export async function hold(path: string): Promise<() => void> {
  if (process.platform !== 'linux') return () => {}
  const { dev, ino } = await stat(dirname(path))
  // nobody has anything to say here
  const server = createServer(socket => socket.destroy()).unref()
  const name = `\0assay-audit-${hash('sha256', `${dev}:${ino}/${basename(path)}`)}`
  await new Promise<void>((resolve, fail) => void server.on('error', fail).listen({ path: name }, resolve)).catch(cause => {
    if (cause.code !== 'EADDRINUSE') throw cause
    const message = `the audit log ${path} is written by another process: give each a file of its own`
    throw new BrokerError('unavailable', message, { cause })
  })
  return () => void server.close()
}

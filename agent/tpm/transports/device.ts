import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import type { Channel, Kind } from '../channel.ts'
import { fault } from '../errors.ts'
import { inThread } from '../threads.ts'

/** The buffer of Linux' TPM driver (TPM_BUFSIZE): no command and no response is longer. */
const LONGEST = 4096

/** A TPM of the machine, by the file that Linux gives it. `/dev/tpmrm0` has the kernel's resource manager; `/dev/tpm0` has none. */
export const device: Kind = {
  scheme: 'device',
  form: 'device:/dev/tpmrm0',
  help: 'character device of a TPM; wants read and write rights on it (group tss)',
  open: async path => channel(await file(path)),
}

async function file(path: string): Promise<FileHandle> {
  try {
    return await inThread(open(path, constants.O_RDWR | constants.O_NOCTTY))
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    const next = why === 'EACCES' || why === 'EPERM' ? 'be in the group that may use it' : 'name another one with --tpm'
    throw fault('UNREACHABLE', `could not open the TPM at ${path} (${why}); ${next}`, error)
  }
}

/** One write is one whole command, one read is one whole response; the position of a character device means nothing. */
function channel(handle: FileHandle): Channel {
  const exchange = async (command: Uint8Array) => {
    const { bytesWritten } = await inThread(handle.write(command, 0, command.length, null))
    if (bytesWritten !== command.length) throw fault('MALFORMED', `the driver took ${bytesWritten} of ${command.length} bytes`)
    const { buffer, bytesRead } = await inThread(handle.read(Buffer.alloc(LONGEST), 0, LONGEST, null))
    return buffer.subarray(0, bytesRead)
  }
  return { exchange: command => exchange(command).catch(asFault), close: () => handle.close() }
}

function asFault(error: unknown): never {
  if (error instanceof Error && 'code' in error) throw fault('CLOSED', `the TPM driver failed (${String(error.code)})`, error)
  throw error
}

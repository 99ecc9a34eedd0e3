import { closeSync, read, write } from 'node:fs'
import { connect } from 'node:net'
import { promisify } from 'node:util'
import koffi from 'koffi'

const libc = koffi.load('libc.so.6')
const openMaster = libc.func('int posix_openpt(int flags)')
const grant = libc.func('int grantpt(int fd)')
const unlock = libc.func('int unlockpt(int fd)')
const nameOf = libc.func('const char *ptsname(int fd)')
const getAttributes = libc.func('int tcgetattr(int fd, _Out_ uint8_t *termios)')
const setAttributes = libc.func('int tcsetattr(int fd, int when, const uint8_t *termios)')
const makeRaw = libc.func('void cfmakeraw(_Inout_ uint8_t *termios)')

const O_RDWR = 2
const O_NOCTTY = 0o400
const TERMIOS_SIZE = 60
const readFrom = promisify(read)
const writeTo = promisify(write)

/**
 * A character device that stands in for a TPM's: a terminal in raw mode, whose other end passes each command on to a TPM at a
 * unix socket. It shows the one write and the one read, and nothing of what a TPM driver adds to them.
 */
export function terminalFor(socketPath: string): { readonly path: string } & AsyncDisposable {
  const master = openMaster(O_RDWR | O_NOCTTY) as number
  if (grant(master) !== 0 || unlock(master) !== 0) throw new Error('no pseudo terminal')
  const termios = Buffer.alloc(TERMIOS_SIZE)
  getAttributes(master, termios)
  makeRaw(termios)
  setAttributes(master, 0, termios)
  const tpm = connect({ path: socketPath })
  tpm.on('data', answer => void writeTo(master, answer))
  const passing = passOn(master, command => void tpm.write(command))
  const close = async () => {
    tpm.destroy()
    await passing
    closeSync(master)
  }
  return { path: nameOf(master) as string, [Symbol.asyncDispose]: close }
}

/** Until the last one has closed the other end: then reading fails with EIO. */
async function passOn(master: number, pass: (command: Buffer) => void): Promise<void> {
  try {
    for (;;) {
      const { bytesRead, buffer } = await readFrom(master, Buffer.alloc(4096), 0, 4096, null)
      pass(Buffer.from(buffer.subarray(0, bytesRead)))
    }
  } catch {}
}

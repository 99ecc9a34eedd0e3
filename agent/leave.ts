import { threadsWaiting } from './tpm/threads.ts'

/** Ends the process, even when a thread still waits for a TPM that is stuck; without koffi, once the thread comes back. */
export async function leave(code: number): Promise<void> {
  const koffi = threadsWaiting() > 0 ? await import('koffi').catch(() => undefined) : undefined
  koffi?.load(null).func('void _exit(int)')(code) // what was written is written: stdout and stderr are synchronous here
  process.exit(code)
}

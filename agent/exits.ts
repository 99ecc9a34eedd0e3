/** Exit codes of the agent's commands, and when each is given. Scripts rely on them: rows are added, never changed. */
export const exits = {
  ok: row(0, 'done'),
  usage: row(1, 'the command line or the environment is not understood'),
  refused: row(2, 'the service refused: role, policy, evidence or token'),
  unavailable: row(
    3,
    'the service did not answer, is not ready, or answered something else than Assay does; trying later may help',
  ),
  tpm: row(4, 'the TPM could not be reached, did not answer in time, or refused a command'),
  child: row(5, 'exec could not start the command'),
  file: row(6, 'a file could not be read or written, or others may read it'),
  pending: row(7, 'an operator has to approve of this machine; enrol again then, or let `enroll --wait` do so'),
  internal: row(70, 'a mistake of ours; please report it'),
} as const
export type Exit = keyof typeof exits

/** Ends a command. `message` is a sentence for who called it and holds no secret. */
export class AgentError extends Error {
  readonly exit: Exit
  constructor(exit: Exit, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'AgentError'
    this.exit = exit
  }
}

/** What a wait makes of a service that cannot answer now: nothing yet. @throws every other error */
export function laterIfUnavailable(error: unknown): undefined {
  if (!(error instanceof AgentError && error.exit === 'unavailable')) throw error
}

function row<Code extends number>(code: Code, when: string): { readonly code: Code; readonly when: string } {
  return { code, when }
}

/** What a task is about, as a trusted orchestrator signed it (RFC 8693 `act`, in the manner of transaction tokens). Empty strings when it was not said. */
export type TaskContext = {
  /** the organisation on whose behalf */
  readonly org: string
  readonly task: string
  readonly session: string
  /** the user for whom: subject of the token */
  readonly user: string
  /** correlation id of the orchestrator's own transaction */
  readonly txn: string
  /** who acts for the user, outermost first: `sub` of each nested `act` */
  readonly actors: readonly string[]
  /** integrations that the task may use; undefined when the token does not narrow them */
  readonly integrations: readonly string[] | undefined
}

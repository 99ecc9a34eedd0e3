import type { HttpReply } from '../hosts/envelope.ts'
import type { SysRequest, SysRow } from './request.ts'

/** Answers with the row, from a look at the mounts that is as new as the row wants it. */
export async function answerSys(row: SysRow, request: SysRequest): Promise<HttpReply> {
  const { mounts, session } = request.broker
  if (row.fresh)
    await mounts.refresh().catch((error: unknown) => {
      // a broker that Vault lets in no more holds nobody up; a Vault that does not answer is not asked twice
      if (row.fresh === 'needed' || (row.fresh === 'wanted' && session.ready())) throw error
    })
  return row.unknown === undefined ? row.handle(request) : askedAgain(row, request)
}

/** Vault's word on what it does not know stands, unless it is ours by now. */
async function askedAgain({ handle, unknown }: SysRow, request: SysRequest): Promise<HttpReply> {
  const passed: Promise<HttpReply>[] = []
  const pass = () => (passed[0] ??= request.pass())
  const reply = await handle({ ...request, pass })
  if ((await passed[0])?.status !== unknown) return reply
  await request.broker.mounts.refresh().catch(() => undefined)
  return handle({ ...request, pass })
}

import { Secret } from '../secret.ts'

/** Somebody else's token, and the address that it was presented from: Vault holds it to the addresses that it is bound to (`token_bound_cidrs`)
 *  when its listener believes `X-Forwarded-For` of us. */
export class Presented extends Secret {
  readonly from: string
  constructor(token: string, from: string) {
    super(token)
    this.from = from
  }
}

/** A token that was made for whoever holds another one: it is bound to the same addresses. */
export function heldBy(holder: Secret, token: string): Secret {
  return holder instanceof Presented ? new Presented(token, holder.from) : new Secret(token)
}

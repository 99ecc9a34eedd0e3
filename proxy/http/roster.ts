/** What comes and goes by the thousands a second, and is looked over now and then.
 *
 *  It is an array because V8's sets and maps do not suit that: one that was made anew, as those that left had used up its room, stays linked from its former
 *  table to the next one. Once a single former table has grown old, each next one, with whatever stood in it when it was given up, lives on until the whole
 *  heap is collected; here that was every request. */
export class Roster<T> {
  readonly #seats: Seat<T>[] = []

  /** @returns what takes it off again */
  enter(one: T): () => void {
    const seat = { one, at: this.#seats.length }
    this.#seats.push(seat)
    return () => this.#leave(seat)
  }

  /** Those that are on it now; they may leave meanwhile. */
  all(): readonly T[] {
    return this.#seats.map(({ one }) => one)
  }

  /** The last one takes the seat. */
  #leave(seat: Seat<T>): void {
    if (this.#seats[seat.at] !== seat) return
    const last = this.#seats.pop() as Seat<T>
    if (last === seat) return
    last.at = seat.at
    this.#seats[seat.at] = last
  }
}

type Seat<T> = { readonly one: T; at: number }

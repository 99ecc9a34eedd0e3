import fc from 'fast-check'
import { expect, test } from 'vitest'
import { openCollected } from '../../engine/collected.ts'

test('pieces of any size are what came, in order', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 3000 }), { maxLength: 20 }), pieces => {
      const collected = openCollected()
      for (const piece of pieces) collected.add(piece)
      const whole = Buffer.concat(pieces)
      expect([collected.size(), collected.bytes().equals(whole)]).toEqual([whole.length, true])
    }),
  )
})

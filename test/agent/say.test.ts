import { expect, test } from 'vitest'
import { sayTo } from '../../agent/say.ts'

test('a terminal is told nothing by those whose words are handed on, and not without end', () => {
  const written: string[] = []
  const say = sayTo({ err: text => void written.push(text) })
  say('open \u001b]0;root\u0007https://door.test\r\nassay agent: all is well')
  say('x'.repeat(1_000_000))
  expect(written[0]).toBe('assay agent: open  ]0;root https://door.test assay agent: all is well\n')
  expect(written[1]?.length).toBeLessThan(2000)
})

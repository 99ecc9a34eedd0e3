import { defineConfig } from 'vitest/config'

// reads the sources, which are others in a copy that is being changed
const reading = 'has every verifier of the floor that refuses'
// take seconds each, which every change would cost again: chance, programs of others, large inputs
const slow = [
  'gives a verdict',
  'cut anywhere',
  'wherever it is cut',
  'any bit of',
  'changed on its way',
  'keep the thread',
  'OpenSSL agrees',
  'tpm2_eventlog replays',
  'no byte can be another one',
  'every CA of the makers',
]

/** Some of the tests, by the names of their files: what only others see counts as not seen then, and it takes less. */
const chosen = (process.env['MUTATION_TESTS'] ?? '**/*').split(' ').map(name => `test/attestation/${name}.test.ts`)

/** The tests of the verifier alone: every change is run against those of them that reach it. */
export default defineConfig({
  test: {
    include: chosen,
    exclude: ['test/attestation/conformance.test.ts'],
    testNamePattern: new RegExp(`^(?!.*(?:${[reading, ...slow].join('|')}))`),
    testTimeout: 20_000,
    isolate: false, // one thread for all files of a change, a new one for the next change
  },
})

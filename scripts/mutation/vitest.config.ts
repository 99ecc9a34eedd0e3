import { defineConfig } from 'vitest/config'

// the tests of the verifier alone: every mutant is run against those of them that reach it
export default defineConfig({
  test: {
    include: ['test/attestation/**/*.test.ts'],
    exclude: ['test/attestation/conformance.test.ts'],
    // reads the sources, which are others in a copy that is being changed
    testNamePattern: /^(?!.*has every verifier of the floor that refuses)/,
    testTimeout: 20_000,
  },
})

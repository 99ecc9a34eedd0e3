import { defineConfig } from 'vitest/config'

// the tests of the verifier alone, in one process: every mutant is run against those of them that reach it
export default defineConfig({
  test: { include: ['test/attestation/**/*.test.ts'], exclude: ['test/attestation/conformance.test.ts'], testTimeout: 20_000 },
})

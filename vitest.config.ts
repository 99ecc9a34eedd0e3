import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

// These limits end a hang, and are met by no machine that is merely slow.
const patience = { testTimeout: 600_000, hookTimeout: 600_000, expect: { poll: { timeout: 120_000 } } }

// what starts programs of others: a Vault, a TPM, the command line
const live = ['test/live/**/*.test.ts', 'test/harness/**/*.test.ts', 'test/agent/**/*.test.ts']

export default defineConfig({
  test: {
    pool: 'forks',
    globalSetup: 'test/harness/own_folder.ts',
    // most tests wait for programs more than they work
    maxWorkers: Math.max(2, availableParallelism() - 1),
    coverage: { provider: 'v8', include: ['attestation/**', 'engine/**', 'mounts/**', 'proxy/**', 'agent/**'] },
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: live, ...patience, sequence: { groupOrder: 0 } },
      },
      {
        extends: true,
        test: { name: 'live', include: live, ...patience, sequence: { groupOrder: 1 } },
      },
    ],
  },
})

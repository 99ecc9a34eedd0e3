import { readFileSync } from 'node:fs'

// node scripts/lib/count.ts FILE: one line that sums up what vitest's JSON reporter wrote to FILE.
type Report = {
  readonly success: boolean
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
  readonly testResults: readonly { readonly status: string; readonly assertionResults: readonly unknown[] }[]
}

const report = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Report
// a file that could not be loaded has no tests to fail, and an error outside of any test fails the run alone
const unloaded = report.testResults.filter(({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0)
const failed = Math.max(report.numFailedTests + unloaded.length, report.success ? 0 : 1)
const skipped = report.numPendingTests + report.numTodoTests
process.stdout.write(`${report.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`)
process.exitCode = failed === 0 && report.numPassedTests > 0 ? 0 : 1

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { PolicyRequest } from '../../engine/policy/index.ts'

export const actions = ['deploy', 'list', 'read']

export const sample = (name: string): { name: string; text: string } => ({
  name,
  text: readFileSync(join(import.meta.dirname, 'policy_samples', `${name}.cedar`), 'utf8'),
})

export const samples = ['deploy', 'guard', 'read'].map(sample)

type Changes = {
  readonly principal?: Partial<PolicyRequest['principal']>
  readonly action?: string
  readonly plugin?: string
  readonly context?: Partial<PolicyRequest['context']>
}

/** A request that the samples permit, with changes. */
export function requestWith({ principal, action, plugin, context }: Changes = {}): PolicyRequest {
  return {
    principal: {
      tpm_id: `sha256-${'ab'.repeat(32)}`,
      mount: 'auth/tpm-quote/',
      role: 'ci',
      entity_id: '0b5e8a6c-0000-4000-8000-000000000001',
      manufacturer: 'IBM',
      firmware_version: '2019.1023',
      reference: 'released',
      reference_version: 3,
      secure_boot: true,
      boot_log: true,
      ima: false,
      labels: ['reader'],
      ...principal,
    },
    action: action ?? 'deploy',
    plugin: plugin ?? 'deployer',
    context: {
      role: 'deploy',
      issuer: 'jwt',
      scope: ['repo:read'],
      audience: 'https://ci.example',
      integration: '',
      org: 'acme',
      task: 'release-42',
      session: '',
      user: '',
      ttl_seconds: 600,
      key_bound: true,
      attestation: { fresh: false, age_seconds: 30 },
      ...context,
    },
  }
}

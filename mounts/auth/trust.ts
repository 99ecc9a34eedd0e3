import { type Broker, countAnchors, describeAnchors, describeLists, repeatedIn, required, text } from '#engine'
import { collection } from '../records.ts'
import { type Path, path } from '../table.ts'

/** All makers together have some thousand certificates: what may write such a bundle may send so many bytes. */
const LARGE_BODY = 16 * 1024 * 1024

/** Trust anchors: a write says what of a bundle is in it twice. */
export const ca = ({ attest: { settings } }: Broker): readonly Path[] =>
  collection(
    'ca',
    settings.ca,
    {
      one: 'set of trust anchors',
      many: 'sets of trust anchors',
      description:
        'Certificates of TPM makers, one or a whole bundle. An endorsement certificate has to lead to one of them; without any, no TPM can enrol.',
    },
    {
      show: ({ format, certificate }) => ({ format, ...describeAnchors(certificate) }),
      write: async ({ mount, name, given }) => {
        await settings.ca.write(mount.id, name, given)
        const { certificate = '' } = given
        const warnings = repeatedIn(certificate)
        return warnings.length > 0 ? { data: { certificates: countAnchors(certificate) }, warnings } : undefined
      },
      bodyBytes: LARGE_BODY,
    },
  )

/** Revocation lists: what is written may be fetched first. */
export const crl = ({ attest }: Broker): readonly Path[] =>
  collection(
    'crl',
    attest.settings.crl,
    {
      one: 'set of revocation lists',
      many: 'sets of revocation lists',
      description:
        'What the CAs of TPM makers have revoked, given as text or fetched from a host in `crl_hosts`. `crl` of the config says what follows from a list that is missing or outdated.',
    },
    {
      show: ({ url, fetched_at, crl: lists }) => ({ url, fetched_at, lists: describeLists(lists) }),
      write: async ({ mount, name, given }) => {
        await attest.settings.crl.write(mount.id, name, await attest.trust.listsFrom(await attest.configOf(mount), given))
        return undefined
      },
      changed: mount => attest.watch.begin(mount),
      bodyBytes: LARGE_BODY,
    },
  )

/** TPMs that wait for an operator. */
export const pending = ({ attest }: Broker): readonly Path[] => [
  path({
    pattern: 'pending',
    help: {
      synopsis: 'List the TPMs that wait for approval.',
      description: 'Where `enrollment=approved`, a TPM under a trust anchor that nobody registered waits here for an operator.',
    },
    fields: {},
    operations: {
      list: {
        summary: 'List the ids of the TPMs that wait, or were denied.',
        run: async ({ mount }) => ({ data: { keys: await attest.approval.list(mount) } }),
      },
    },
  }),
  path({
    pattern: 'pending/:id',
    help: {
      synopsis: 'Decide on a TPM that waits for approval.',
      description:
        'Read what its certificate says, then write `decision=approve` or `decision=deny`. What is approved is registered under `tpm/` and enrols when it comes again; what was denied stays denied until it is approved or deleted here.',
    },
    fields: {
      id: required(text('Id of the TPM.', { max: 128 })),
      decision: text('What is decided.', { choices: ['approve', 'deny'] }),
      reason: text('Why, for those who come later.', { fallback: '' }),
    },
    operations: {
      read: {
        summary: 'Read what is known of the TPM.',
        run: async ({ mount, values }) => ({ data: await attest.approval.read(mount, values.id) }),
      },
      update: {
        summary: 'Approve of the TPM, or deny it.',
        run: async ({ mount, values }) => {
          await attest.approval.decide(mount, values.id, values.decision, values.reason)
          return undefined
        },
      },
      delete: {
        summary: 'Forget the TPM: it may come and wait again.',
        run: async ({ mount, values }) => {
          await attest.approval.forget(mount, values.id)
          return undefined
        },
      },
    },
  }),
]

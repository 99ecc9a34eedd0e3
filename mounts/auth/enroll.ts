import { type Broker, bytes, list, required, text } from '#engine'
import { type Path, path } from '../table.ts'

const CERTIFICATE = 8192
const PUBLIC = 2048

export const enroll = (broker: Broker): Path =>
  path({
    pattern: 'enroll',
    help: {
      synopsis: 'Offer an attestation key for enrolment.',
      description:
        'Checks the endorsement certificate and both public areas, and answers with a credential that only this TPM can open (TPM2_MakeCredential). Open it with TPM2_ActivateCredential and send the secret to enroll/activate.',
    },
    unauthenticated: true,
    audits: 'itself',
    fields: {
      ek_certificate: required(bytes('Endorsement certificate: DER, as in the NV index, base64.', { max: CERTIFICATE })),
      ek_public: required(bytes('TPMT_PUBLIC of the endorsement key, base64.', { max: PUBLIC })),
      ak_public: required(bytes('TPMT_PUBLIC of the attestation key, base64.', { max: PUBLIC })),
      hierarchy: text(
        'Where the attestation key lives: a primary key in the endorsement or owner hierarchy, or a child of the endorsement key.',
        {
          fallback: 'endorsement',
          choices: ['endorsement', 'ek', 'owner'],
        },
      ),
      intermediates: list('Certificates between the endorsement certificate and a trust anchor: DER, base64.', {
        max: CERTIFICATE * 2,
      }),
    },
    operations: {
      update: {
        summary: 'Check the keys; return a credential to open.',
        run: async ({ mount, values, caller, txn, from }) => {
          const offered = await broker.attest.offer(mount, { ...values, caller }, { txn, from })
          return {
            data: {
              tpm_id: offered.tpmId,
              ak_name: offered.akName.toString('hex'),
              credential_blob: offered.credentialBlob.toString('base64'),
              encrypted_secret: offered.encryptedSecret.toString('base64'),
              enrollment: offered.enrollment.toString('base64'),
              expires_in: offered.expiresInSeconds,
            },
          }
        },
      },
    },
  })

export const activate = (broker: Broker): Path =>
  path({
    pattern: 'enroll/activate',
    help: {
      synopsis: 'Finish an enrolment.',
      description:
        'Takes the secret that the TPM found in the credential, and writes the record of the attestation key. Where an operator has to approve of TPMs, `status` is `pending` until one did: enrol again then.',
    },
    unauthenticated: true,
    audits: 'itself',
    fields: {
      enrollment: required(bytes('What enroll returned, base64.', { max: 131_072 })),
      secret: required(bytes('What TPM2_ActivateCredential returned, base64.', { max: 64 })),
    },
    operations: {
      update: {
        summary: 'Compare the secret; enrol the attestation key.',
        run: async ({ mount, values: { enrollment, secret }, txn, from }) => {
          const { status, tpmId, akName } = await broker.attest.activate(mount, enrollment, secret, { txn, from })
          return { data: { status, tpm_id: tpmId, ak_name: akName.toString('hex') } }
        },
      },
    },
  })

/** Consent of people, in a browser: OAuth 2.0 authorization code flow with the broker as the client. */
export { type Grants, openGrants } from './grants.ts'
export { openRequests } from './requests.ts'
export { CALLBACK_PATH, CONSENT_TYPE, type Consent, type ConsentView, openConsent, PAGE_PATH } from './service.ts'

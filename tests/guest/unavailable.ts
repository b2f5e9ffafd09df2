/**
 * A need of the guest tests that this machine cannot provide: they are skipped, with this reason.
 */
export class Unavailable extends Error {}

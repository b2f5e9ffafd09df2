/** Loads on a disk, by the names that options have for them. */

/** The names that fio has for what it does. */
export const patterns = ['randread', 'randwrite', 'read', 'write', 'randrw'] as const;
export type Pattern = (typeof patterns)[number];

/** Whether it writes: what was on the disk is gone afterwards. */
export const destroys = (pattern: Pattern): boolean => pattern !== 'randread' && pattern !== 'read';

/** How completions are found. */
export const interruptKinds = ['msix', 'msi', 'intx', 'poll'] as const;
export type Interrupts = (typeof interruptKinds)[number];

/**
 * Where the driver rings: in memory that the controller looks at, or in registers; as it sees fit.
 */
export const doorbellKinds = ['auto', 'shadow', 'registers'] as const;
export type Doorbells = (typeof doorbellKinds)[number];

/** What a load does: the names that fio has for it. */
export const patterns = ['randread', 'randwrite', 'read', 'write', 'randrw'] as const;
export type Pattern = (typeof patterns)[number];

/** Whether it writes: what was on the disk is gone afterwards. */
export const destroys = (pattern: Pattern): boolean => pattern !== 'randread' && pattern !== 'read';

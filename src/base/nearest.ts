/**
 * The entry of `names` that differs from `name` by two letters at most, and by half of its own, as
 * a typing error does. Null when there is none.
 */
export function nearest(name: string, names: Iterable<string>): string | null {
  let found: string | null = null;
  let least = 3;
  for (const candidate of names) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase(), least);
    if (distance >= least || distance * 2 > candidate.length) continue;
    least = distance;
    found = candidate;
  }
  return found;
}

/**
 * Number of letters to change, add, leave out or swap with the next one; `most` when there are as
 * many or more.
 */
function editDistance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) >= most || a.length > 100) return most;
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) next[j] = Math.min(next[j]!, before[j - 2]! + 1);
    }
    before = row;
    row = next;
  }
  return Math.min(row[b.length]!, most);
}

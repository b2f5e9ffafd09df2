/**
 * CI tries the same random sequences each time, so that a change is judged by itself. Other runs,
 * and the soak, try new ones.
 */
import fc from 'fast-check';

if (process.env.CI !== undefined && process.env.CI !== '') fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: 20_261_121 });

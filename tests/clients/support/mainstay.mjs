export const startMainstay = undefined;

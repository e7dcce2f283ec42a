// Make it forget

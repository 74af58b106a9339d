// Threads need an isolated page. Where the host does not send the headers, a service worker does.

const TRIED = "isolation-tried";

/** Whether the page was loaded anew already; true as well where nothing can be remembered. */
function wasTried() {
  try {
    return sessionStorage.getItem(TRIED) !== null;
  } catch {
    return true;
  }
}

function forget() {
  try {
    sessionStorage.removeItem(TRIED);
  } catch {
    // nothing was remembered
  }
}

/** Resolves to why the page has one thread only, or to nothing; may reload the page once. */
export async function isolate() {
  if (self.crossOriginIsolated) {
    forget();
    return null;
  }
  if (!self.isSecureContext || !("serviceWorker" in navigator)) {
    return "This page runs on one thread: browsers give more only over https, or on this machine.";
  }
  const failed = "This page runs on one thread: its host does not isolate it.";
  if (wasTried()) return failed;
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    sessionStorage.setItem(TRIED, "yes");
    location.reload();
    return new Promise(() => {}); // the new page goes on
  } catch {
    return failed;
  }
}

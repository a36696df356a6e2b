// A link has its code behind #, where no log sees it: it is put into the form and sent.
const form = document.getElementById("sign-in");
const code = decodeURIComponent(window.location.hash.slice(1));
if (code && !document.getElementById("problem")) {
  history.replaceState(null, "", window.location.pathname + window.location.search);
  form.elements.code.value = code;
  form.requestSubmit();
}

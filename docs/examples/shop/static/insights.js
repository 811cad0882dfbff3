// Tells search-insights which application its events are for. It runs before search-insights is there: calls wait in
// a queue. Who the visitor is comes next in the page, from the server.
window.shop = JSON.parse(document.getElementById("shop-settings").textContent);
window.AlgoliaAnalyticsObject = "aa";
window.aa = function () {
  (window.aa.queue = window.aa.queue || []).push(arguments);
};
// Only where there is somebody to speak of: not before the visitor has chosen, and not after they refused.
window.shop.counted = Boolean(window.shop.insights.userToken);
window.shop.insightsInitParams = {
  ...(window.shop.url && { host: window.shop.url }),
  ...window.shop.insights,
};
window.aa("init", {
  appId: window.shop.appId,
  apiKey: window.shop.apiKey,
  ...window.shop.insightsInitParams,
});
window.shop.searchClient = () => {
  const url = window.shop.url && new URL(window.shop.url);
  const host = url && { url: url.hostname, port: Number(url.port), protocol: url.protocol.slice(0, -1), accept: "readWrite" };
  return window["algoliasearch/lite"].liteClient(window.shop.appId, window.shop.apiKey, host ? { hosts: [host] } : {});
};

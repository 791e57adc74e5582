// The role that remote writes need, on a data collection rule, which may be in another resource group than
// the app.
targetScope = 'resourceGroup'

param ruleName string
param principalId string

// Monitoring Metrics Publisher
var publisher = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '3913510d-42f4-4e42-8a64-420c390055eb')

resource rule 'Microsoft.Insights/dataCollectionRules@2022-06-01' existing = {
  name: ruleName
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(rule.id, principalId, publisher)
  scope: rule
  properties: {
    roleDefinitionId: publisher
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
